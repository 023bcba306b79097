"""Trains ResNet18 and publishes model versions; read in the order data, resnet, recipe, fit, export, cli."""
