//! The readers under test, compiled by themselves: they are pure, and the program around them is not needed to run them.
//! What the targets share is beside: a server of another make ([`oracle`]) and what must hold of any message ([`law`]).
#![allow(dead_code)] // the program uses the rest

pub mod law;
pub mod oracle;

#[path = "../../src/engine"]
pub mod engine {
    pub mod facts {
        mod words;
        pub(crate) use words::words;
    }
    pub mod hello;
    pub mod request;
    pub mod target;
}

#[path = "../../src/proxy"]
pub mod proxy {
    pub mod http1 {
        pub mod body;
        pub mod head;
    }
}
