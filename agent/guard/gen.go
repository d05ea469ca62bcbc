package guard

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel,bpfeb -no-global-types guard guard.c -- -O2 -Wall -Wextra -Werror
