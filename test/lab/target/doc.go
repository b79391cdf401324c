// Package target starts the daemon under test for tests that drive it with
// other people's initiators: on the loopback or in a lab.Net, with the logical
// units that the test asks for, and kills and restarts it.
//
// The daemon is iserd. ISERD_TEST_TARGET=tgt takes Debian's tgtd in its place,
// to tell a fault of a test from a fault of the daemon.
package target
