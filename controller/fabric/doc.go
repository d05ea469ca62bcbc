// Package fabric drives the switches: it accepts their connections or dials
// them, makes their flows equal to what package pipeline says, resolves the
// network's neighbours through them, and replays the steering of sessions.
//
// What a switch holds survives the controller: flows that are right are not
// touched when it comes back, those of others never, and session steering is
// left alone until Replace has said which sessions there are.
package fabric
