// Package compose holds the lab of containers of docker-compose.yml: what its
// images are made of, its daemons' configurations, and its test, which `make
// compose-test` runs. docs/compose.md describes all of it.
package compose
