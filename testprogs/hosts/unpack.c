// Does what a packer's loader does: puts a program into anonymous memory at its addresses and jumps to
// its entry. The process keeps the loader as its executable.
//
//	unpack PROGRAM ARGS...    PROGRAM is a static executable that is not position independent
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void fail(const char *what) {
	perror(what);
	exit(2);
}

static uint64_t page(uint64_t n) { return n & ~(uint64_t)4095; }

static void load(int fd, const Elf64_Phdr *segment) {
	uint64_t start = page(segment->p_vaddr);
	uint64_t len = segment->p_vaddr + segment->p_memsz - start;
	int all = PROT_READ | PROT_WRITE | PROT_EXEC;
	void *at = mmap((void *)start, len, all, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at != (void *)start) fail("mmap");
	if (pread(fd, (void *)segment->p_vaddr, segment->p_filesz, segment->p_offset) != (ssize_t)segment->p_filesz)
		fail("read");
	int wanted = ((segment->p_flags & PF_R) ? PROT_READ : 0) | ((segment->p_flags & PF_W) ? PROT_WRITE : 0) |
		     ((segment->p_flags & PF_X) ? PROT_EXEC : 0);
	if (mprotect(at, len, wanted)) fail("mprotect");
}

int main(int argc, char **argv) {
	if (argc < 2) return 2;
	int fd = open(argv[1], O_RDONLY);
	if (fd < 0) fail(argv[1]);
	Elf64_Ehdr header;
	Elf64_Phdr segments[64];
	if (pread(fd, &header, sizeof header, 0) != sizeof header || header.e_phnum > 64) fail("header");
	ssize_t table = header.e_phnum * sizeof *segments;
	if (pread(fd, segments, table, header.e_phoff) != table) fail("segments");
	for (int i = 0; i < header.e_phnum; i++)
		if (segments[i].p_type == PT_LOAD) load(fd, &segments[i]);
	close(fd);
	// The stack as the kernel made it, with one argument less: the count moves up by one word.
	uint64_t *stack = (uint64_t *)argv;
	stack[0] = argc - 1;
	__asm__ volatile("mov %0, %%rsp\n\tjmp *%1" : : "r"(stack), "r"(header.e_entry) : "memory");
	__builtin_unreachable();
}
