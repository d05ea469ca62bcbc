package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"time"
)

// ovsdb asks an Open vSwitch database. Protocol: RFC 7047.
type ovsdb struct {
	conn net.Conn
	in   *json.Decoder
	id   int
}

// maxAnswer bounds an answer, octets.
const maxAnswer = 64 << 20

// dialOVSDB connects to "unix:/path" or "tcp:host:port".
func dialOVSDB(ctx context.Context, target string) (*ovsdb, error) {
	network, address, _ := strings.Cut(target, ":")
	if network != "unix" && network != "tcp" || address == "" {
		return nil, fmt.Errorf("database %q: write unix:/path or tcp:host:port", target)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to the database %s: %w", target, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline.Add(time.Second)); err != nil {
			c.Close()
			return nil, fmt.Errorf("connect to the database %s: %w", target, err)
		}
	}
	return &ovsdb{conn: c, in: json.NewDecoder(io.LimitReader(c, maxAnswer))}, nil
}

func (o *ovsdb) close() error { return o.conn.Close() }

// message is any of the protocol's: a request, a notification or an answer.
type message struct {
	Method string            `json:"method,omitempty"`
	Params []json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage   `json:"result,omitempty"`
	Error  json.RawMessage   `json:"error,omitempty"`
	ID     json.RawMessage   `json:"id,omitempty"`
}

// A row is one of a table: values of columns by name.
type row map[string]json.RawMessage

// table returns a table of the database Open_vSwitch by UUID.
func (o *ovsdb) table(name string, columns ...string) (map[string]row, error) {
	o.id++
	sort.Strings(columns)
	request := map[string]any{"method": "transact", "id": o.id, "params": []any{"Open_vSwitch", map[string]any{
		"op": "select", "table": name, "where": []any{}, "columns": append([]string{"_uuid"}, columns...)}}}
	if err := json.NewEncoder(o.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("ask the database for %s: %w", name, err)
	}
	for {
		var m message
		if err := o.in.Decode(&m); err != nil {
			return nil, fmt.Errorf("read the database's %s: %w", name, err)
		}
		if m.Method == "echo" {
			if err := json.NewEncoder(o.conn).Encode(map[string]any{"id": m.ID, "result": m.Params, "error": nil}); err != nil {
				return nil, fmt.Errorf("answer the database: %w", err)
			}
			continue
		}
		if m.Method != "" || string(m.ID) != fmt.Sprint(o.id) {
			continue
		}
		return parseRows(name, m)
	}
}

func parseRows(name string, m message) (map[string]row, error) {
	if len(m.Error) > 0 && string(m.Error) != "null" {
		return nil, fmt.Errorf("the database refuses to show %s: %s", name, m.Error)
	}
	var results []struct {
		Rows  []row  `json:"rows"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(m.Result, &results); err != nil {
		return nil, fmt.Errorf("read the database's %s: %w", name, err)
	}
	if len(results) != 1 || results[0].Error != "" {
		return nil, fmt.Errorf("the database refuses to show %s: %s", name, m.Result)
	}
	out := make(map[string]row, len(results[0].Rows))
	for _, r := range results[0].Rows {
		id := r.texts("_uuid")
		if len(id) != 1 {
			return nil, errors.New("the database shows a row without a UUID")
		}
		out[id[0]] = r
	}
	return out, nil
}

// texts returns a column's value as a list: an atom is one, a set any number;
// UUIDs are their text, numbers and booleans as JSON writes them.
func (r row) texts(column string) []string {
	var v any
	if json.Unmarshal(r[column], &v) != nil {
		return nil
	}
	return atoms(v)
}

func atoms(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case bool, float64:
		return []string{fmt.Sprint(v)}
	case []any:
		if len(v) != 2 {
			return nil
		}
		switch kind, _ := v[0].(string); kind {
		case "uuid", "named-uuid":
			return atoms(v[1])
		case "set":
			var out []string
			list, _ := v[1].([]any)
			for _, e := range list {
				out = append(out, atoms(e)...)
			}
			return out
		}
	}
	return nil
}

// text is a column's only value, "" if it has none.
func (r row) text(column string) string {
	if list := r.texts(column); len(list) > 0 {
		return list[0]
	}
	return ""
}

// option is a value of a column that is a map, "" if the key is absent.
func (r row) option(column, key string) string {
	var v []any
	if json.Unmarshal(r[column], &v) != nil || len(v) != 2 || v[0] != "map" {
		return ""
	}
	pairs, _ := v[1].([]any)
	for _, p := range pairs {
		pair, _ := p.([]any)
		if len(pair) == 2 && pair[0] == key {
			if s := atoms(pair[1]); len(s) == 1 {
				return s[0]
			}
		}
	}
	return ""
}
