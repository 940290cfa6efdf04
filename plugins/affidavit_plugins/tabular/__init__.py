"""Models of tables: linear models, trees and ensembles on scikit-learn, and a multilayer perceptron on torch."""
