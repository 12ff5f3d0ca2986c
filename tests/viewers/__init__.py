"""Viewers that are not ours look at what we send: OHIF and dwv in a browser, with Orthanc behind them."""
