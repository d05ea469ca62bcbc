package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

// members reads an archive.
func members(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheImageIsAnOCILayout(t *testing.T) {
	program := []byte("a program")
	archive, err := image(program, "arm64", "1.2~rc+3", time.Unix(1_700_000_000, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	files := members(t, archive)
	read := func(name string, into any) {
		t.Helper()
		if err := json.Unmarshal(files[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	get := func(d descriptor) []byte {
		t.Helper()
		b := files[blob(d)]
		if d.Digest != fmt.Sprintf("sha256:%x", sha256.Sum256(b)) || d.Size != len(b) {
			t.Errorf("%s is not the blob that is there", d.Digest)
		}
		return b
	}
	var index struct{ Manifests []descriptor }
	read("index.json", &index)
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	if err := json.Unmarshal(get(index.Manifests[0]), &manifest); err != nil {
		t.Fatal(err)
	}
	var config struct {
		Architecture string
		Config       struct{ Entrypoint []string }
		RootFS       struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(get(manifest.Config), &config); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(get(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); config.RootFS.DiffIDs[0] != want || config.Architecture != "arm64" {
		t.Errorf("configuration %+v, want the layer %s", config, want)
	}
	if got := members(t, layer)["./usr/bin/shunt"]; !bytes.Equal(got, program) || config.Config.Entrypoint[0] != "/usr/bin/shunt" {
		t.Errorf("the image's program is %q, its entry point %q", got, config.Config.Entrypoint)
	}
	// What docker load reads.
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	read("manifest.json", &saved)
	if saved[0].RepoTags[0] != "shunt:1.2-rc-3" || saved[0].Config != blob(manifest.Config) || saved[0].Layers[0] != blob(manifest.Layers[0]) {
		t.Errorf("manifest.json: %+v", saved)
	}
}
