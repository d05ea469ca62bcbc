package metrics

// StepBuckets are upper bounds for the steps of a hand-off, seconds: an idle
// connection is dumped in about 12 µs, a hand-off takes 200 to 500 µs, and a
// target has one second by default.
var StepBuckets = []float64{
	10e-6, 25e-6, 50e-6, 100e-6, 175e-6, 250e-6, 400e-6, 600e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1,
}
