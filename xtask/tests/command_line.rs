//! The tool from outside: what a person who mistypes, or looks at the beginning only, sees.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The message of a command that has to fail before it builds or boots anything.
fn refusal(arguments: &[&str]) -> String {
    let output = xtask(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} was accepted");
    assert!(output.stdout.is_empty(), "{arguments:?} began: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn closed_pipe_ends_the_tool_quietly() {
    let mut child = xtask(&["test", "--list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // The pipe is closed with the reader, after one line of more than it holds.
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(!line.is_empty());
    assert_eq!(said, "");
}

#[test]
fn refuses_what_the_board_cannot_have_before_it_builds() {
    assert!(refusal(&["run", "--board", "raspi3", "--cores", "8"]).contains("raspi3b always has 4 cores"));
    assert!(refusal(&["run", "--cores", "129"]).contains("virt has 1 to 128 cores"));
    assert!(refusal(&["run", "--memory", "128"]).contains("--memory 128 are 128 bytes: is 128M meant?"));
    assert!(refusal(&["run", "--memory", "lots"]).contains("--memory lots is not a size like 512M or 2G"));
}

#[test]
fn names_the_boards_when_there_is_no_such_board() {
    for verb in ["run", "build"] {
        let message = refusal(&[verb, "--board", "pine65"]);
        assert!(
            message.contains("there is no board pine65; there is") && message.contains("pine64"),
            "{message}"
        );
    }
}
