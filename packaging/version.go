package packaging

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// describe returns the version of a source tree and the time that its packages'
// files carry: those of the commit, or, outside a repository, "0.0~dev" and
// SOURCE_DATE_EPOCH (else 1970).
//
// A commit with the tag v1.2.3 is version 1.2.3, any other one
// 0.0~git202611230120.0123456789 by its own time and name, so that later ones
// are newer to dpkg and tagged ones newer than all of them. "+dirty" says that
// the tree differs from the commit.
func describe(ctx context.Context, root string) (version string, when time.Time, err error) {
	out, err := git(ctx, root, "log", "-1", "--format=%ct %H")
	if err != nil {
		seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
		if os.Getenv("SOURCE_DATE_EPOCH") != "" && err != nil {
			return "", when, fmt.Errorf("SOURCE_DATE_EPOCH=%s: write seconds since 1970", os.Getenv("SOURCE_DATE_EPOCH"))
		}
		return "0.0~dev", time.Unix(seconds, 0).UTC(), nil
	}
	stamp, commit, _ := strings.Cut(out, " ")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || len(commit) < 10 {
		return "", when, fmt.Errorf("find out the version: git says %q of the last commit", out)
	}
	when = time.Unix(seconds, 0).UTC()
	if tag, err := git(ctx, root, "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		version = strings.TrimPrefix(tag, "v")
	} else {
		version = fmt.Sprintf("0.0~git%s.%s", when.Format("200601021504"), commit[:10])
	}
	changes, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return "", when, fmt.Errorf("find out whether the tree is the commit: %w", err)
	}
	if changes != "" {
		version += "+dirty"
	}
	return version, when, nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}
