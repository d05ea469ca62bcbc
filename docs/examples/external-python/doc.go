// Package python holds the test of the example in policy.py.
package python
