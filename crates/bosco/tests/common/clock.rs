//! A clock that is wrong for one program: the machines of a lab share one, so it is moved between a program and its library.

use std::path::PathBuf;
use std::process::Command;

use testbed::Operator;

/// Moves the time of the day by the seconds that the file says which `CLOCK_OFFSET` names; no other clock.
const MOVED: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int came = syscall(SYS_clock_gettime, clock, now);
    const char *name = clock == CLOCK_REALTIME && came == 0 ? getenv("CLOCK_OFFSET") : NULL;
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    char text[24] = { 0 };
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
        close(file);
    }
    return came;
}
"#;

/// The library that does it, for `LD_PRELOAD`.
pub fn library(operator: &Operator) -> PathBuf {
    let (source, library) = (operator.dir().join("clock.c"), operator.dir().join("clock.so"));
    std::fs::write(&source, MOVED).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    assert!(
        cc.status().unwrap().success(),
        "cc, which links this test too, does not make {}",
        library.display()
    );
    library
}
