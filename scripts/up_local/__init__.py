"""`make up-local`: everything of docker-compose.yml as plain processes of one machine, with one page of links."""
