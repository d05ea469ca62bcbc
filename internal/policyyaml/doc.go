// Package policyyaml reads and writes policies as YAML. A document is a Policy
// of the API, field by field, with the JSON names of protobuf and these forms:
// an enum's value is its name without the type's prefix, in lower case
// (least_requests); a duration is a number with a unit (250ms, 1m30s); numbers
// are numbers. Several documents, and several files, are put together.
//
// Reading is strict: a field that does not exist, a value of another type and
// a key that stands there twice are mistakes, told with file, line and column
// and what was probably meant. Anchors, aliases and merge keys are refused.
package policyyaml
