package policyproto

import (
	"github.com/shunt-sdn/shunt/policy"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Check returns the policy as a model. The error is a fault.List with every
// mistake and the path of its field.
func Check(p *shuntv1.Policy) (policy.Model, error) {
	m, faults := Model(p)
	if list, ok := policy.Validate(&m).(fault.List); ok {
		// A value that could not be converted is not to be told of twice.
		told := make(map[string]bool, len(faults))
		for _, f := range faults {
			told[f.Path] = true
		}
		for _, f := range list {
			if !told[f.Path] {
				faults = append(faults, f)
			}
		}
	}
	return m, faults.Err()
}
