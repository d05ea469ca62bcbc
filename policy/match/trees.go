package match

import "strings"

// radix is a tree of prefixes: a node stands for the labels from the root to it.
type radix struct {
	label string
	list  []int32 // matches whose prefix ends here
	heads []byte  // first octets of the children's labels
	kids  []*radix
}

func (n *radix) add(prefix string, i int32) {
	for prefix != "" {
		k := strings.IndexByte(string(n.heads), prefix[0])
		if k < 0 {
			n.heads = append(n.heads, prefix[0])
			n.kids = append(n.kids, &radix{label: prefix, list: []int32{i}})
			return
		}
		kid := n.kids[k]
		same := 0
		for same < len(kid.label) && same < len(prefix) && kid.label[same] == prefix[same] {
			same++
		}
		if same < len(kid.label) { // split
			kid = &radix{label: kid.label[:same], heads: []byte{kid.label[same]},
				kids: []*radix{{kid.label[same:], kid.list, kid.heads, kid.kids}}}
			n.kids[k] = kid
		}
		n, prefix = kid, prefix[same:]
	}
	n.list = append(n.list, i)
}

// prefixes tries the matches of every prefix of the path.
func (t *Table) prefixes(n *radix, r *Request, best int32) int32 {
	for rest := r.Path; ; {
		if len(n.list) > 0 {
			best = t.try(n.list, r, best)
		}
		if rest == "" {
			return best
		}
		k := -1
		for i, c := range n.heads {
			if c == rest[0] {
				k = i
				break
			}
		}
		if k < 0 || !strings.HasPrefix(rest, n.kids[k].label) {
			return best
		}
		n = n.kids[k]
		rest = rest[len(n.label):]
	}
}

// segment is a tree of templates: a node stands for the segments from the root
// to it.
type segment struct {
	kids map[string]*segment
	any  *segment
	list []int32 // matches whose template ends here
	rest []int32 // matches whose template has ** here
}

func (n *segment) add(segments []string, i int32) {
	for _, s := range segments {
		switch s {
		case "**":
			n.rest = append(n.rest, i)
			return
		case "*":
			if n.any == nil {
				n.any = &segment{}
			}
			n = n.any
		default:
			if n.kids == nil {
				n.kids = make(map[string]*segment)
			}
			if n.kids[s] == nil {
				n.kids[s] = &segment{}
			}
			n = n.kids[s]
		}
	}
	n.list = append(n.list, i)
}

// segments tries the matches of every template that the path, from the segment
// after a slash on, fits. It visits a node of the tree at most once.
func (t *Table) segments(n *segment, path string, r *Request, best int32) int32 {
	if len(n.rest) > 0 {
		best = t.try(n.rest, r, best)
	}
	s, after, more := strings.Cut(path, "/")
	if kid := n.kids[s]; kid != nil {
		best = t.next(kid, after, more, r, best)
	}
	if n.any != nil && s != "" {
		best = t.next(n.any, after, more, r, best)
	}
	return best
}

func (t *Table) next(n *segment, after string, more bool, r *Request, best int32) int32 {
	if more {
		return t.segments(n, after, r, best)
	}
	return t.try(n.list, r, best)
}
