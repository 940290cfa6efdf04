"""Who may do what: actors, enrolled approvers and their approvals."""
