// Package nearest guesses what a word that is not known was meant to be.
package nearest

import "strings"

// Word returns the candidate that word was probably meant to be, or "": the one
// with the fewest letters to change, at most a third of them and one, in any
// case; of several the first in the alphabet.
func Word(word string, candidates []string) string {
	best, limit := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= limit && (d < limit || best == "" || c < best) {
			best, limit = c, d
		}
	}
	return best
}

// distance is Levenshtein's: insertions, deletions and replacements of octets.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
