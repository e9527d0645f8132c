"""HTTP for every domain: bodies, headers, problems, limits and the OpenAPI document."""
