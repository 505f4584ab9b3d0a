package states

// startRecursion parks goroutines at depths around the limits of the dump (100 frames).
func startRecursion() {
	for depth := 40; depth <= 150; depth += 10 {
		go recurse(depth)
		go recurseInlined(depth)
	}
	for depth := 96; depth <= 104; depth++ {
		go recurseNear(depth)
		go recurseNearInlined(depth)
	}
	go recurseDeep(10000)
}

//go:noinline
func recurse(n int) int {
	if n == 0 {
		hold()
		return 0
	}
	return recurse(n-1) + 1
}

//go:noinline
func recurseNear(n int) int {
	if n == 0 {
		hold()
		return 0
	}
	return recurseNear(n-1) + 1
}

//go:noinline
func recurseDeep(n int) int {
	if n == 0 {
		hold()
		return 0
	}
	return recurseDeep(n-1) + n
}

// recurseInlined shows two frames for each frame on the stack.
//
//go:noinline
func recurseInlined(n int) int {
	if n == 0 {
		park()
		return 0
	}
	return stepInlined(n) + 1
}

func stepInlined(n int) int { return recurseInlined(n - 1) }

//go:noinline
func recurseNearInlined(n int) int {
	if n == 0 {
		park()
		return 0
	}
	return stepNearInlined(n) + 1
}

func stepNearInlined(n int) int { return recurseNearInlined(n - 1) }
