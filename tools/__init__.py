"""What is done to the project and is no part of the service: locks and audits of its parts."""
