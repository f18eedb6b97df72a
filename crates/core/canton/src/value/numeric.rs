//! Decimal numbers with a fixed scale.

use std::fmt;
use std::str::FromStr;

/// Digits of a numeric, before and after the point.
pub const DIGITS_MAX: usize = 38;
/// The largest scale.
pub const SCALE_MAX: usize = 37;

/// A decimal number: `unscaled / 10^scale`, with at most 38 digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Numeric {
    unscaled: i128,
    scale: u8,
}

/// The text is no numeric in its canonical form.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{found:?} is no decimal number in canonical form")]
pub struct NotANumeric {
    /// The text, cut.
    pub found: String,
}

impl Numeric {
    /// A number of these digits: none if there are too many of them.
    pub fn new(unscaled: i128, scale: u8) -> Option<Self> {
        let fits = unscaled.unsigned_abs() < 10_u128.pow(38) && usize::from(scale) <= SCALE_MAX;
        fits.then_some(Self { unscaled, scale })
    }

    /// The number times ten to the power of its scale.
    pub fn unscaled(self) -> i128 {
        self.unscaled
    }

    /// How many digits stand behind the point.
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// The unscaled number as the shortest big-endian two's complement, as hashes take it.
    pub fn unscaled_bytes(self) -> Vec<u8> {
        let bytes = self.unscaled.to_be_bytes();
        let sign = if self.unscaled < 0 { 0xff } else { 0x00 };
        // A byte may go while the next one still shows the sign.
        let redundant = bytes
            .windows(2)
            .take_while(|pair| pair[0] == sign && (pair[0] ^ pair[1]) & 0x80 == 0)
            .count();
        bytes.into_iter().skip(redundant).collect()
    }
}

impl FromStr for Numeric {
    type Err = NotANumeric;

    /// Daml-LF, `Numeric.fromString`: digits, a point, and as many digits as the scale. A number
    /// whose text is not what [`fmt::Display`] writes is refused, because it would change when it
    /// is written again.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NotANumeric { found: text.chars().take(80).collect() };
        let (whole, fraction) = text.split_once('.').ok_or_else(error)?;
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let decimal = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let sizes = digits.len() + fraction.len() <= DIGITS_MAX + 1 && fraction.len() <= SCALE_MAX;
        if digits.is_empty() || !decimal(digits) || !decimal(fraction) || !sizes {
            return Err(error());
        }
        let unscaled = format!("{whole}{fraction}").parse::<i128>().map_err(|_| error())?;
        let scale = u8::try_from(fraction.len()).map_err(|_| error())?;
        let numeric = Self::new(unscaled, scale).ok_or_else(error)?;
        if numeric.to_string() == text { Ok(numeric) } else { Err(error()) }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!("{:0width$}", self.unscaled.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.unscaled < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_read_as_they_print() {
        let nines = format!("-{}.9", "9".repeat(37));
        for text in ["0.", "0.0000000000", "-1.5", "9999.9900000000", "10.", nines.as_str()] {
            assert_eq!(text.parse::<Numeric>().unwrap().to_string(), text);
        }
        let long = format!("{}.0", "9".repeat(38));
        for text in ["", ".", ".5", "00.1", "-0.0", "+1.0", "1", "1.0e3", "1_0.0", " 1.0", &long] {
            assert!(text.parse::<Numeric>().is_err(), "{text}");
        }
    }

    #[test]
    fn unscaled_bytes_are_the_shortest_ones() {
        let cases: [(i128, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0, 0x80]),
            (-1, &[0xff]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (256, &[1, 0]),
            (-256, &[0xff, 0]),
        ];
        for (number, bytes) in cases {
            assert_eq!(Numeric::new(number, 0).unwrap().unscaled_bytes(), bytes, "{number}");
        }
    }
}
