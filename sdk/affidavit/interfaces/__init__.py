"""The three interfaces (data sets, models, deployments) and the records that they exchange."""
