//! Attributes: a length, a kind and a payload, padded to a multiple of four (netlink(7)).

const HEADER: usize = 4;

/// The attributes of a message's payload, each with its kind. Ends at the first that is cut off.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]), payload))
    }
}

/// Appends an attribute, whose payload is a multiple of four long.
pub(crate) fn attribute(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    debug_assert_eq!(payload.len() % 4, 0, "padding is left to whoever needs it");
    out.extend_from_slice(&((HEADER + payload.len()) as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(payload);
}
