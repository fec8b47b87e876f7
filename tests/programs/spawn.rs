// Starts itself again by `std::process`; with musl.
use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio, exit},
};

fn main() {
    let own = env::current_exe().unwrap();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("status") => exit(3),
        Some("say") => return println!("{}", arguments[1..].join(" ")),
        Some("wait") => loop {
            std::thread::park();
        },
        _ => {}
    }
    let status = Command::new(&own).arg("status").status().unwrap();
    println!("status {}", status.code().unwrap());
    let output = Command::new(&own).args(["say", "one", "two"]).output().unwrap();
    print!("said: {}", String::from_utf8(output.stdout).unwrap());
    let mut child = Command::new(&own).arg("wait").stdout(Stdio::null()).spawn().unwrap();
    child.kill().unwrap();
    println!("ended by a signal: {:?}", child.wait().unwrap().signal());
    println!("there is no such program: {:?}", Command::new("/no/program").status().unwrap_err().kind());
}
