// A program that is not Go: loads the library that its argument names and calls Run in it.
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
	void (*run)(void) = library ? (void (*)(void))dlsym(library, "Run") : NULL;
	if (!run) {
		fprintf(stderr, "usage: host LIBRARY\n");
		return 2;
	}
	run();
	return 0;
}
