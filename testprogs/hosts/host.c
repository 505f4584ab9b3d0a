// A C program with Go inside: host FOLDER [LIBRARY].
// Built with -DLINKED the library is part of it; else it is loaded.
#include <dlfcn.h>
#include <stdio.h>

typedef void park(char *folder);

#ifdef LINKED
extern park park_all;
#endif

static park *find(int argc, char **argv) {
#ifdef LINKED
  (void)argc, (void)argv;
  return park_all;
#else
  void *library = argc > 2 ? dlopen(argv[2], RTLD_NOW) : NULL;
  return library ? (park *)dlsym(library, "park_all") : NULL;
#endif
}

int main(int argc, char **argv) {
  park *park_all_goroutines = find(argc, argv);
  if (argc < 2 || !park_all_goroutines) {
    const char *why = dlerror();
    fprintf(stderr, "host: %s\n", why ? why : "usage: host FOLDER [LIBRARY]");
    return 2;
  }
  park_all_goroutines(argv[1]);
  return 0;
}
