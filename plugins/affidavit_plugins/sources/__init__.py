"""Where data sets come from: files, SQL databases, frames in memory."""
