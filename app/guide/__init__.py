"""The guide: documentation pages that the service serves at ``/guide``, and the reference made from the code."""
