"""What a radiograph means: vocabulary, reading, network, prediction, priority."""
