//! Names: the lecture's for its sockets and streams, or plain ones.

/// Which names sockets and streams have in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Names {
    /// Those of the lecture: `welcomeSocket`, `connectionSocket`, `inFromUser`.
    #[default]
    Lecture,
    /// Those of everyday speech.
    Plain,
}

impl Names {
    /// The word on the command line: `lecture`, `plain`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lecture => "lecture",
            Self::Plain => "plain",
        }
    }

    /// The names of a word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Lecture, Self::Plain].into_iter().find(|names| names.word() == word)
    }

    const fn either(self, lecture: &'static str, plain: &'static str) -> &'static str {
        match self {
            Self::Lecture => lecture,
            Self::Plain => plain,
        }
    }

    /// The socket that listens for connections.
    pub const fn welcome(self) -> &'static str {
        self.either("welcomeSocket", "listening socket")
    }

    /// The socket that listens: of a server over streams, or over datagrams.
    pub const fn door(self, is_datagram: bool) -> &'static str {
        if is_datagram { self.either("serverSocket", "server socket") } else { self.welcome() }
    }

    /// The server's socket of one conversation.
    pub const fn server(self, is_datagram: bool) -> &'static str {
        match is_datagram {
            true => self.either("serverSocket", "server socket"),
            false => self.either("connectionSocket", "accepted socket"),
        }
    }

    /// The client's socket.
    pub const fn client(self) -> &'static str {
        self.either("clientSocket", "client socket")
    }

    /// What the client's program reads from the keyboard.
    pub const fn in_from_user(self) -> &'static str {
        self.either("inFromUser", "input")
    }

    /// What the client's program writes to its socket.
    pub const fn out_to_server(self) -> &'static str {
        self.either("outToServer", "to server")
    }

    /// What the client's program reads from its socket.
    pub const fn in_from_server(self) -> &'static str {
        self.either("inFromServer", "from server")
    }

    /// What the server's program reads from its socket.
    pub const fn in_from_client(self) -> &'static str {
        self.either("inFromClient", "from client")
    }

    /// What the server's program writes to its socket.
    pub const fn out_to_client(self) -> &'static str {
        self.either("outToClient", "to client")
    }

    /// A datagram that is sent.
    pub const fn send_packet(self) -> &'static str {
        self.either("sendPacket", "sent")
    }

    /// A datagram that is received.
    pub const fn receive_packet(self) -> &'static str {
        self.either("receivePacket", "received")
    }
}
