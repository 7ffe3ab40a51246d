//! Writes ClientHellos for tests: here, in `tls/` and wherever raw hello bytes are due.

/// One hello to be written; `extensions` come as they are.
pub(crate) struct Draft {
    pub(crate) legacy: u16,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Draft {
    pub(crate) fn new(legacy: u16) -> Self {
        Self { legacy, extensions: Vec::new() }
    }

    pub(crate) fn with(mut self, kind: u16, data: &[u8]) -> Self {
        self.extensions.push((kind, data.to_vec()));
        self
    }

    pub(crate) fn sni(self, name: &str) -> Self {
        let entry = [&[0][..], &vec16(name.as_bytes())].concat();
        self.with(0, &vec16(&entry))
    }

    pub(crate) fn versions(self, list: &[u16]) -> Self {
        let bytes: Vec<u8> = list.iter().flat_map(|v| v.to_be_bytes()).collect();
        self.with(43, &vec8(&bytes))
    }

    pub(crate) fn alpn(self, names: &[&str]) -> Self {
        let list: Vec<u8> = names.iter().flat_map(|n| vec8(n.as_bytes())).collect();
        self.with(16, &vec16(&list))
    }

    /// The handshake message, its header included.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = self.legacy.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(vec8(&[9; 32]));
        body.extend(vec16(&[0x13, 0x01, 0xc0, 0x2b]));
        body.extend(vec8(&[0]));
        if !self.extensions.is_empty() {
            let all: Vec<u8> = self
                .extensions
                .iter()
                .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vec16(data)].concat())
                .collect();
            body.extend(vec16(&all));
        }
        let length = u32::try_from(body.len()).expect("a hello is short").to_be_bytes();
        [&[1, length[1], length[2], length[3]][..], &body].concat()
    }

    /// On the wire, in records of at most `size` bytes.
    pub(crate) fn wire(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(|part| [&[22, 3, 1][..], &vec16(part)].concat()).collect()
    }
}

pub(crate) fn vec8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("fits a byte")][..], bytes].concat()
}

pub(crate) fn vec16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("fits two bytes").to_be_bytes()[..], bytes].concat()
}
