package guard

// The compiled program is committed, so that building needs no clang. Whoever
// changes guard.c or bpf.h runs go generate, with Debian 12's clang-14 and
// llvm-14; the same source gives the same bytes, wherever the repository is.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel,bpfeb -no-global-types guard guard.c -- -O2 -Wall -Wextra -Werror
