//! Baud rates: from a clock to the divisors of each UART. Arithmetic only.
//!
//! A divisor is refused when the speed that comes of it is more than 2.5 % off: a receiver finds the middle
//! of the tenth bit as long as both ends together are not off by half a bit, which is 5 %.
use core::fmt;

/// Baud rate and reference clock from which a driver computes its divisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// The frequency of the clock that the UART is fed with, in hertz.
    pub clock_hz: u32,
    /// Bits in a second on the line.
    pub baud: u32,
}

/// Why a UART could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// No divisor comes close enough to the speed.
    Unreachable(Speed),
    /// Bytes kept arriving, and the UART does not let itself be set up meanwhile (DesignWare).
    Busy,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(Speed { clock_hz, baud }) => {
                write!(f, "{baud} baud cannot be made from a clock of {clock_hz} Hz")
            }
            Self::Busy => f.write_str("the UART is busy with bytes that keep arriving"),
        }
    }
}

impl core::error::Error for InitError {}

/// The divisor of a PL011: clock / (16 * baud), in 64ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pl011Divisor {
    /// `UARTIBRD`: the integer part, at least 1.
    pub integer: u16,
    /// `UARTFBRD`: 64ths, up to 63.
    pub fraction: u8,
}

/// The divisors of a Cadence UART: baud = clock / (`generator` * (`divider` + 1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CadenceDivisor {
    /// `Baud_rate_gen_reg0.CD`, at least 1.
    pub generator: u16,
    /// `Baud_rate_divider_reg0.BDIV`, at least 4.
    pub divider: u8,
}

/// The whole number next to `numerator / denominator`.
fn rounded(numerator: u64, denominator: u64) -> Option<u64> {
    (numerator + denominator / 2).checked_div(denominator)
}

impl Speed {
    /// The divisor of a PL011 (TRM, 3.3.6).
    pub fn pl011(self) -> Result<Pl011Divisor, InitError> {
        // 64ths of clock / (16 * baud).
        let divisor = self.divisor(4, 1, 64..=0xffff * 64)?;
        Ok(Pl011Divisor { integer: (divisor / 64) as u16, fraction: (divisor % 64) as u8 })
    }

    /// The divisor latch of a 16550: clock / (16 * baud).
    pub fn ns16550(self) -> Result<u16, InitError> {
        Ok(self.divisor(1, 16, 1..=0xffff)? as u16)
    }

    /// `AUX_MU_BAUD` of a BCM2835 mini UART: clock / (8 * baud) - 1.
    pub fn bcm_mini(self) -> Result<u16, InitError> {
        Ok((self.divisor(1, 8, 1..=0x1_0000)? - 1) as u16)
    }

    /// The divisors of a Cadence UART that come closest; of those, the ones with the most samples for each
    /// bit.
    pub fn cadence(self) -> Result<CadenceDivisor, InitError> {
        let mut best = None;
        for divider in (4..=u8::MAX).rev() {
            let samples = u64::from(divider) + 1;
            let Ok(generator) = self.divisor(1, samples, 1..=0xffff) else { continue };
            let error = u64::from(self.clock_hz).abs_diff(generator * samples * u64::from(self.baud));
            // Relative to what the clock would have to be; cross-multiplied, so that nothing is rounded.
            let scale = generator * samples;
            if best.is_none_or(|(_, least, of)| {
                u128::from(error) * u128::from(of) < u128::from(least) * u128::from(scale)
            }) {
                best = Some((CadenceDivisor { generator: generator as u16, divider }, error, scale));
            }
        }
        best.map(|(divisor, ..)| divisor).ok_or(InitError::Unreachable(self))
    }

    /// The divisor d that makes clock * `times` / (d * `samples`) the closest to the baud rate, if it is in
    /// the range and the speed close enough.
    fn divisor(
        self,
        times: u64,
        samples: u64,
        range: core::ops::RangeInclusive<u64>,
    ) -> Result<u64, InitError> {
        let clock = u64::from(self.clock_hz) * times;
        let tick = u64::from(self.baud) * samples;
        rounded(clock, tick)
            .filter(|divisor| {
                range.contains(divisor) && clock.abs_diff(divisor * tick) * 40 <= divisor * tick
            })
            .ok_or(InitError::Unreachable(self))
    }
}
