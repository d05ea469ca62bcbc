// Package policyproto turns a policy of the API into one of package policy, and
// finds every mistake in it. The controller does so before it stores a policy,
// agents before they apply one, and the command line before it sends one: all
// three say the same.
package policyproto
