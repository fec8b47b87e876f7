// Threads, channels, maps with random seeds, files, time, panics; with musl.
use std::{collections::HashMap, env, fs, panic, sync::mpsc, thread, time};

fn main() {
    let (sender, receiver) = mpsc::channel();
    for i in 0..4u64 {
        let sender = sender.clone();
        thread::spawn(move || (0..1000).for_each(|k| sender.send(i * k).unwrap()));
    }
    drop(sender);
    println!("sum {}", receiver.iter().sum::<u64>());
    let squares: HashMap<_, _> = (0..10_000u64).map(|i| (i, i * i)).collect();
    println!("square {}", squares[&77]);
    fs::write("/tmp/channels", "written").unwrap();
    println!("{:?}", fs::read_to_string("/tmp/channels"));
    fs::remove_file("/tmp/channels").unwrap();
    println!("{:?}", fs::read("/tmp/channels").map_err(|error| error.kind()));
    println!("{:?}", env::args().collect::<Vec<_>>());
    let before = time::Instant::now();
    thread::sleep(time::Duration::from_millis(3));
    println!("slept {}", before.elapsed() >= time::Duration::from_millis(3));
    panic::set_hook(Box::new(|_| {}));
    println!("panicked {}", thread::spawn(|| panic!("on purpose")).join().is_err());
    println!("parallel {}", thread::available_parallelism().is_ok());
}
