"""Which transfer syntaxes can be decoded, and by which library: one decoder per syntax, chosen by measuring."""

from typing import Final

from pydicom import uid

#: Decoding plugin of pydicom per transfer syntax; empty = pixels are stored as they are.
DECODERS: Final[dict[uid.UID, str]] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.JPEGBaseline8Bit: "gdcm",
    uid.JPEGExtended12Bit: "gdcm",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}

#: What the receiver may accept: every transfer syntax that ends as pixels here.
READABLE_TRANSFER_SYNTAXES: Final[tuple[str, ...]] = tuple(str(syntax) for syntax in DECODERS)
