//! The readers under test, compiled by themselves: they are pure, and the program around them is not needed to run them.
//! What the targets share is beside: a server of another make ([`oracle`]) and what must hold of any message ([`law`]).
#![allow(dead_code)] // the program uses the rest

pub mod law;
pub mod oracle;

#[path = "../../src/engine"]
pub mod engine {
    /// The real one is a megabyte of data that no reader here asks: `facts.rs` names its types.
    pub mod atlas {
        #[derive(Debug, Clone)]
        pub struct HostKind;
        pub struct Atlas;

        impl Atlas {
            pub fn host(&self, _: &super::target::Host) -> HostKind {
                HostKind
            }
        }
    }
    pub mod facts;
    pub mod form;
    pub mod hello;
    pub mod hex;
    mod pieces;
    pub mod reason;
    pub mod request;
    pub mod signature;
    pub mod target;
}

#[path = "../../src/proxy"]
pub mod proxy {
    pub mod http1 {
        pub mod body;
        pub mod head;
    }
}
