"""Equal runs of both twins: trained under one protocol, checked to be equal, laid side by side."""
