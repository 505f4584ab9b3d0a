package main

/*
#include <unistd.h>

static void c_vforks(void) {
	if (vfork() == 0) {
		sleep(1000);
		_exit(0);
	}
}
*/
import "C"

func vforks() { C.c_vforks() }
