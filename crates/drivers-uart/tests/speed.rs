//! Divisors: known ones, and properties of all.
use drivers_uart::{CadenceDivisor, InitError, Pl011Divisor, Speed};
use proptest::prelude::*;

const fn speed(clock_hz: u32, baud: u32) -> Speed {
    Speed { clock_hz, baud }
}

#[test]
fn known_divisors() {
    // TRM, 3.3.6, example: 230400 baud from 4 MHz.
    assert_eq!(speed(4_000_000, 230_400).pl011(), Ok(Pl011Divisor { integer: 1, fraction: 5 }));
    // Raspberry Pi: 115200 baud from 48 MHz.
    assert_eq!(speed(48_000_000, 115_200).pl011(), Ok(Pl011Divisor { integer: 26, fraction: 3 }));
    // A PC's 16550; Allwinner A64.
    assert_eq!(speed(1_843_200, 9600).ns16550(), Ok(12));
    assert_eq!(speed(24_000_000, 115_200).ns16550(), Ok(13));
    // Raspberry Pi: 115200 baud from a core clock of 250 MHz.
    assert_eq!(speed(250_000_000, 115_200).bcm_mini(), Ok(270));
    // ZCU102: 115200 baud from 100 MHz; 124 * 7 would be the same speed, with fewer samples.
    assert_eq!(speed(100_000_000, 115_200).cadence(), Ok(CadenceDivisor { generator: 4, divider: 216 }));
}

#[test]
fn limits() {
    for impossible in [speed(0, 115_200), speed(24_000_000, 0), speed(0, 0), speed(u32::MAX, 1)] {
        assert_eq!(impossible.pl011(), Err(InitError::Unreachable(impossible)));
        assert_eq!(impossible.ns16550(), Err(InitError::Unreachable(impossible)));
        assert_eq!(impossible.bcm_mini(), Err(InitError::Unreachable(impossible)));
        assert_eq!(impossible.cadence(), Err(InitError::Unreachable(impossible)));
    }
    assert_eq!(speed(16, 1).pl011(), Ok(Pl011Divisor { integer: 1, fraction: 0 }));
    assert_eq!(speed(16 * 0xffff, 1).pl011(), Ok(Pl011Divisor { integer: 0xffff, fraction: 0 }));
    assert!(speed(15, 1).pl011().is_err());
    assert_eq!(speed(16 * 0xffff, 1).ns16550(), Ok(0xffff));
    assert_eq!(speed(8 * 0x1_0000, 1).bcm_mini(), Ok(0xffff));
    assert_eq!(speed(8, 1).bcm_mini(), Ok(0));
    assert_eq!(speed(5, 1).cadence(), Ok(CadenceDivisor { generator: 1, divider: 4 }));
    // 24 MHz / (16 * 921600) is 1.63: either neighbour is far off.
    assert!(speed(24_000_000, 921_600).ns16550().is_err());
    assert_eq!(
        speed(1000, 115_200).ns16550().unwrap_err().to_string(),
        "115200 baud cannot be made from a clock of 1000 Hz"
    );
}

fn error(speed: Speed, divisor: f64) -> f64 {
    (f64::from(speed.clock_hz) / f64::from(speed.baud) / divisor - 1.0).abs()
}

proptest! {
    #[test]
    fn accepted_divisors_are_within_tolerance(clock_hz in 0..=u32::MAX, baud in 0..5_000_000_u32) {
        let speed = speed(clock_hz, baud);
        let accepted = [
            speed.pl011().map(|d| 16.0 * (f64::from(d.integer) + f64::from(d.fraction) / 64.0)),
            speed.ns16550().map(|d| 16.0 * f64::from(d)),
            speed.bcm_mini().map(|d| 8.0 * (f64::from(d) + 1.0)),
            speed.cadence().map(|d| f64::from(d.generator) * (f64::from(d.divider) + 1.0)),
        ];
        for divisor in accepted.into_iter().flatten() {
            prop_assert!(error(speed, divisor) <= 0.0250001, "{divisor}");
        }
    }

    #[test]
    fn neighbouring_divisors_are_no_closer(clock_hz in 1_000_000..300_000_000_u32, baud in 1200..1_000_000_u32) {
        let speed = speed(clock_hz, baud);
        if let Ok(divisor) = speed.ns16550() {
            let off = |d: u16| (f64::from(clock_hz) - 16.0 * f64::from(d) * f64::from(baud)).abs();
            prop_assert!(off(divisor) <= off(divisor + 1) && off(divisor) <= off(divisor - 1));
        }
        if let Ok(CadenceDivisor { generator, divider }) = speed.cadence() {
            let best = error(speed, f64::from(generator) * (f64::from(divider) + 1.0));
            for divider in 4..=255_u32 {
                let generator = (f64::from(clock_hz) / f64::from(baud) / f64::from(divider + 1)).round();
                if (1.0..=65535.0).contains(&generator) {
                    prop_assert!(best <= error(speed, generator * f64::from(divider + 1)) + 1e-12);
                }
            }
            prop_assert!(generator >= 1 && divider >= 4);
        }
    }
}
