//! First stacks, read back as a program's start-up code does.

mod common;

use linux_program::{
    AuxType, Credentials, Hwcaps, InitialStack, MIN_SIGNAL_STACK, Placed, Program, StackError, UserAddr,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::slice::Iter;

type Texts = Vec<Vec<u8>>;
type Bytes<'a> = std::iter::Map<Iter<'a, Vec<u8>>, fn(&Vec<u8>) -> &[u8]>;

fn bytes(texts: &Texts) -> Bytes<'_> {
    texts.iter().map(Vec::as_slice)
}

fn stack<'a>(
    program: &'a Placed<'a>,
    arguments: &'a Texts,
    environment: &'a Texts,
) -> InitialStack<'a, Bytes<'a>, Bytes<'a>> {
    InitialStack {
        arguments: bytes(arguments),
        environment: bytes(environment),
        file_name: b"/bin/program",
        program,
        random: *b"sixteen randoms!",
        hwcaps: Hwcaps { hwcap: 0x1234, hwcap2: 0x5678 },
        credentials: Credentials { user: 1000, group: 100 },
        vdso: Some(UserAddr::new(0x7f00_0000_1000)),
        min_signal_stack: MIN_SIGNAL_STACK,
        restartable: true,
    }
}

/// What a program sees.
struct Seen<'a> {
    top: u64,
    memory: &'a [u8],
}

impl Seen<'_> {
    fn at(&self, address: u64) -> &[u8] {
        &self.memory[(address - (self.top - self.memory.len() as u64)) as usize..]
    }

    fn word(&self, address: u64) -> u64 {
        u64::from_le_bytes(*self.at(address).first_chunk().expect("a word"))
    }

    fn text(&self, address: u64) -> Vec<u8> {
        let bytes = self.at(address);
        bytes[..bytes.iter().position(|byte| *byte == 0).expect("a NUL")].to_vec()
    }

    fn texts(&self, address: &mut u64) -> Texts {
        let mut texts = Texts::new();
        loop {
            let text = self.word(*address);
            *address += 8;
            if text == 0 {
                return texts;
            }
            texts.push(self.text(text));
        }
    }

    fn auxiliary(&self, mut address: u64) -> BTreeMap<AuxType, u64> {
        let mut entries = BTreeMap::new();
        while self.word(address) != 0 {
            let new = entries.insert(AuxType(self.word(address)), self.word(address + 8)).is_none();
            assert!(new, "an entry twice");
            address += 16;
        }
        entries
    }
}

fn with_program(test: impl FnOnce(&Placed<'_>)) {
    let file = common::pie().build();
    let program = Program::parse(&file).unwrap();
    test(&program.place(UserAddr::new(0x5555_0000_0000), &common::LIMITS).unwrap());
}

#[test]
fn what_the_auxiliary_vector_says() {
    with_program(|program| {
        let arguments = vec![b"program".to_vec()];
        let mut memory = vec![0xee; 4096];
        let top = UserAddr::new(0x7fff_ffff_f000);
        let pointer = stack(program, &arguments, &vec![]).write(top, &mut memory).unwrap().get();
        let seen = Seen { top: top.get(), memory: &memory };
        let entries = seen.auxiliary(pointer + 8 + 16 + 8);
        let expected = [
            (AuxType::PHDR, 0x5555_0000_0040),
            (AuxType::PHENT, 56),
            (AuxType::PHNUM, 4),
            (AuxType::PAGESZ, 4096),
            (AuxType::BASE, 0),
            (AuxType::FLAGS, 0),
            (AuxType::ENTRY, 0x5555_0000_0400),
            (AuxType::UID, 1000),
            (AuxType::EUID, 1000),
            (AuxType::GID, 100),
            (AuxType::EGID, 100),
            (AuxType::SECURE, 0),
            (AuxType::CLKTCK, 100),
            (AuxType::HWCAP, 0x1234),
            (AuxType::HWCAP2, 0x5678),
            (AuxType::SYSINFO_EHDR, 0x7f00_0000_1000),
            (AuxType::MINSIGSTKSZ, 5120),
            (AuxType::RSEQ_FEATURE_SIZE, 28),
            (AuxType::RSEQ_ALIGN, 32),
        ];
        for (kind, value) in expected {
            assert_eq!(entries.get(&kind), Some(&value), "{kind:?}");
        }
        assert_eq!(entries.len(), expected.len() + 3);
        assert_eq!(seen.text(entries[&AuxType::EXECFN]), b"/bin/program");
        assert_eq!(seen.text(entries[&AuxType::PLATFORM]), b"aarch64");
        assert_eq!(&seen.at(entries[&AuxType::RANDOM])[..16], b"sixteen randoms!");
        // The last bytes are null, as in Linux, and nothing is written below the stack pointer.
        assert_eq!(memory[4096 - 8..], [0; 8]);
        let used = (top.get() - pointer) as usize;
        assert!(memory[..4096 - used].iter().all(|byte| *byte == 0xee));
    });
}

#[test]
fn empty_argv_becomes_one_empty_argument() {
    with_program(|program| {
        let mut memory = vec![0xee; 4096];
        let top = UserAddr::new(0x8000);
        let pointer = stack(program, &vec![], &vec![]).write(top, &mut memory).unwrap().get();
        let seen = Seen { top: 0x8000, memory: &memory };
        assert_eq!(seen.word(pointer), 1);
        assert_eq!(seen.texts(&mut (pointer + 8)), [b""]);
    });
}

#[test]
fn rejects_too_large_arguments() {
    with_program(|program| {
        let arguments = vec![vec![b'a'; 5000]];
        let environment = vec![];
        let stack = stack(program, &arguments, &environment);
        let size = stack.size().unwrap();
        let top = UserAddr::new(0x7fff_0000);
        // Alignment costs 30 bytes at most.
        assert!(stack.write(top, &mut vec![0; size]).is_ok());
        for available in [0, 1, 100, 5000, size - 47] {
            let refused = stack.write(top, &mut vec![0; available]);
            let Err(StackError::TooLarge { needed, .. }) = refused else {
                panic!("{available}: {refused:?}")
            };
            assert_eq!(needed, size as u64);
        }
        assert_eq!(stack.write(UserAddr::new(100), &mut [0; 200]), Err(StackError::Top(UserAddr::new(100))));
        let refused = stack.write(UserAddr::new(100), &mut [0; 100]);
        assert_eq!(refused, Err(StackError::TooLarge { needed: size as u64, available: 100 }));
    });
}

#[test]
fn rejects_nul_in_arguments() {
    with_program(|program| {
        for (arguments, environment) in [(vec![b"a\0b".to_vec()], vec![]), (vec![], vec![b"A=\0".to_vec()])] {
            let stack = stack(program, &arguments, &environment);
            assert_eq!(stack.size(), Err(StackError::Nul));
            assert_eq!(stack.write(UserAddr::new(0x8000), &mut [0; 4096]), Err(StackError::Nul));
        }
    });
}

fn texts() -> impl Strategy<Value = Texts> {
    proptest::collection::vec(proptest::collection::vec(1..=255_u8, 0..40), 0..20)
}

proptest! {
    #[test]
    fn walks_back(
        arguments in texts(),
        environment in texts(),
        top in 0x1_0000..0x1_0100_u64,
        room in 0..4000_usize,
    ) {
        let file = common::fixed().build();
        let program = Program::parse(&file).unwrap();
        let program = program.place(UserAddr::new(0), &common::LIMITS).unwrap();
        let stack = stack(&program, &arguments, &environment);
        let size = stack.size().unwrap();
        let mut memory = vec![0xee; room];
        match stack.write(UserAddr::new(top), &mut memory) {
            Err(StackError::TooLarge { needed, available }) => {
                prop_assert!(needed > available && available == room as u64 && room < size);
            }
            Err(other) => prop_assert!(false, "{other}"),
            Ok(pointer) => {
                let mut at = pointer.get();
                prop_assert_eq!(at % 16, 0);
                prop_assert!(top - at <= size as u64);
                let seen = Seen { top, memory: &memory };
                let count = seen.word(at);
                at += 8;
                let found = seen.texts(&mut at);
                prop_assert_eq!(found.len() as u64, count);
                if arguments.is_empty() {
                    prop_assert_eq!(found, vec![vec![]]);
                } else {
                    prop_assert_eq!(&found, &arguments);
                }
                let first = seen.word(pointer.get() + 8);
                prop_assert_eq!(seen.texts(&mut at), environment.clone());
                let entries = seen.auxiliary(at);
                prop_assert_eq!(entries[&AuxType::ENTRY], 0x40_0400);
                prop_assert_eq!(&seen.at(entries[&AuxType::RANDOM])[..16], b"sixteen randoms!");
                prop_assert_eq!(entries[&AuxType::RANDOM] % 16, 0);
                // All strings of arguments and environment are one after the other.
                let all: Vec<u8> = arguments.iter().chain(&environment).flat_map(|text| [text, &b"\0"[..]].concat()).collect();
                if !arguments.is_empty() {
                    prop_assert_eq!(&seen.at(first)[..all.len()], &all[..]);
                }
            }
        }
    }
}
