package packaging

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"
)

// A descriptor names a blob of an image. OCI image specification 1.0, descriptor.md.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// image returns an image with one layer that holds nothing but the program, as
// a tar archive that is both an OCI image layout and what `docker load` takes.
func image(program []byte, arch, version string, when time.Time) ([]byte, error) {
	var layer bytes.Buffer
	tree := Tree{{Path: "/usr/bin/shunt", Mode: 0o755, Body: program}}
	if err := tree.writeTar(&layer, ".", when); err != nil {
		return nil, err
	}
	packed, err := compress(layer.Bytes())
	if err != nil {
		return nil, err
	}
	blobs := Tree{}
	add := func(media string, body []byte) descriptor {
		sum := fmt.Sprintf("%x", sha256.Sum256(body))
		blobs = append(blobs, File{Path: "/blobs/sha256/" + sum, Mode: 0o644, Body: body})
		return descriptor{MediaType: media, Digest: "sha256:" + sum, Size: len(body)}
	}
	object := func(media string, v any) (descriptor, error) {
		body, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, fmt.Errorf("write the image's %s: %w", media, err)
		}
		return add(media, body), nil
	}
	top := add(mediaLayer, packed)
	config, err := object(mediaConfig, map[string]any{
		"created": when.Format(time.RFC3339), "architecture": arch, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/usr/bin/shunt"}, "Cmd": []string{"--help"},
			"Env":    []string{"PATH=/usr/bin"},
			"Labels": map[string]string{"org.opencontainers.image.title": "shunt", "org.opencontainers.image.version": version, "org.opencontainers.image.licenses": "Apache-2.0"},
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
		"history": []map[string]any{{"created": when.Format(time.RFC3339), "created_by": "make package"}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := object(mediaManifest, map[string]any{"schemaVersion": 2, "mediaType": mediaManifest, "config": config, "layers": []descriptor{top}})
	if err != nil {
		return nil, err
	}
	tag := "shunt:" + tagOf(version)
	manifest.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/" + tag, "org.opencontainers.image.ref.name": tagOf(version)}
	for name, v := range map[string]any{
		"/index.json":    map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{manifest}},
		"/oci-layout":    map[string]string{"imageLayoutVersion": "1.0.0"},
		"/manifest.json": []map[string]any{{"Config": blob(config), "RepoTags": []string{tag}, "Layers": []string{blob(top)}}},
	} {
		body, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write the image's %s: %w", name, err)
		}
		blobs = append(blobs, File{Path: name, Mode: 0o644, Body: body})
	}
	return plainTar(blobs, when)
}

// plainTar archives files under relative names, as image layouts have them.
func plainTar(t Tree, when time.Time) ([]byte, error) {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	sortTree(t)
	for _, f := range t {
		h := &tar.Header{Name: f.Path[1:], Typeflag: tar.TypeReg, Mode: f.Mode, Size: int64(len(f.Body)), ModTime: when, Format: tar.FormatUSTAR}
		if err := tw.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("archive %s: %w", f.Path, err)
		}
		if _, err := tw.Write(f.Body); err != nil {
			return nil, fmt.Errorf("archive %s: %w", f.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("archive the image: %w", err)
	}
	return out.Bytes(), nil
}

// blob is where a layout keeps what d names.
func blob(d descriptor) string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }

// tagOf makes a version a tag: letters, digits, '_', '.' and '-'.
func tagOf(version string) string {
	out := []byte(version)
	for i, c := range out {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			out[i] = '-'
		}
	}
	return string(out)
}
