//! What a node does most, whose instructions are counted by `cargo xtask bench`: one member of a room sends a message, and each other
//! member gets it, from the read of the message to the write of its last copy; and a client comes, joins the namespace and goes.
//!
//! Without an argument the program lists its cases, each with the number of deliveries or clients it counts; with the name of a case it
//! does that one. The node has one shard, and its clients are driven on that shard's thread, by a handler. So the server and
//! its clients take turns, always in the same order, and the count is nearly the same every time; the clients' part of it is a
//! `recv()` for each delivery, and what it takes to connect.

use std::{
    hint::black_box,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use signalbox_auth::{Authenticator, GrantsSpec, HmacSecret, Issuer, Key, Mint, Mode, Now, Settings};
use signalbox_node::{
    Action, App, Args, Config, Cors, Metrics, Namespace, Node, Serve, bind,
    policy::{AllowAll, Policy, TokenPolicy, WithoutRedis},
    rules::{BUILTIN, RuleSet},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

/// A name, the members that hear each message, the messages that are counted, and what the message is for the server. Where nobody hears
/// a message, clients come and go instead.
const CASES: [(&str, usize, usize, Serves); 6] = [
    ("connect: a client comes by WebSocket, joins the namespace and goes", 0, 500, Serves::Action),
    ("fanout: deliver to 1 other member", 1, 2000, Serves::Action),
    // As the one above, but for what a token costs: `cargo xtask bench` compares the two.
    ("fanout: deliver to 1 other member, with tokens", 1, 2000, Serves::Tokens),
    ("fanout: deliver to 100 other members", 100, 50, Serves::Action),
    // The default rules file, whose events have code of their own; and the same rules without it.
    ("fanout: deliver to 1 other member by the vocabulary", 1, 2000, Serves::Vocabulary),
    ("fanout: deliver to 1 other member by rules of one's own", 1, 2000, Serves::Rules),
];

/// By what a message is served.
#[derive(Clone, Copy, PartialEq)]
enum Serves {
    /// One action.
    Action,
    /// The same, where a token is required.
    Tokens,
    /// The built-in vocabulary, the default rules file.
    Vocabulary,
    /// The same as one's own rules: interpreted.
    Rules,
}

/// What the tokens are signed with.
const SECRET: &str = "a secret of the bench, of more than 32 bytes";
/// Messages before them.
const WARM_UP: usize = 5;
/// By then it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    // Whoever measures time has come to the wrong place: cargo bench passes this.
    let wanted = std::env::args().nth(1).filter(|argument| argument != "--bench");
    let Some(wanted) = wanted else {
        let mut stdout = io::stdout().lock();
        return CASES.iter().try_for_each(|(name, others, messages, _)| {
            writeln!(stdout, "{}\t{name}", others.max(&1) * messages)
        });
    };
    let case = CASES.iter().find(|(name, ..)| *name == wanted);
    let (_, others, messages, serves) =
        case.ok_or_else(|| io::Error::other(format!("there is no case {wanted:?}")))?;
    run(*others, *messages, *serves)
}

/// A policy that requires a token, and a token that grants what is done here, by patterns of which the last one matches.
fn tokens() -> Result<(Arc<dyn Policy>, String), Box<dyn std::error::Error + Send + Sync>> {
    let secret = HmacSecret::new(SECRET)?;
    let issuer = Issuer { keys: vec![Key::hmac(&secret)?], ..Issuer::default() };
    let settings = Settings { mode: Mode::Required, issuers: vec![issuer], ..Settings::default() };
    let policy = TokenPolicy::new(Authenticator::new(settings)?, None, WithoutRedis::Allow);
    let mut mint = Mint::new("alice");
    let grants = r#"{"rooms": {"join": ["room"], "send": ["team-*", "of-{sub}", "roo*"]}}"#;
    mint.grants = Some(GrantsSpec::from_setting(grants)?);
    Ok((Arc::new(policy), mint.sign(&secret, Now::read().unix)?))
}

/// What the handler needs, and what it leaves behind.
#[derive(Default)]
struct Drive {
    connecting: Arc<str>,
    address: OnceLock<SocketAddr>,
    result: OnceLock<io::Result<()>>,
    is_over: Notify,
}

fn run(others: usize, messages: usize, serves: Serves) -> io::Result<()> {
    let has_tokens = serves == Serves::Tokens;
    let (policy, token): (Arc<dyn Policy>, _) = match has_tokens {
        true => tokens().map_err(io::Error::other)?,
        false => (Arc::new(AllowAll), String::new()),
    };
    // The CONNECT packet of each client.
    let connecting: Arc<str> = match has_tokens {
        true => format!("40{{\"token\":\"{token}\"}}").into(),
        false => "40".into(),
    };
    let drive = Arc::new(Drive { connecting: connecting.clone(), ..Drive::default() });
    let handler = {
        let drive = drive.clone();
        move |_, _| {
            let drive = drive.clone();
            async move { drive.run(others, messages).await }
        }
    };
    let app = App::new();
    let (app, namespace) = match serves {
        Serves::Action | Serves::Tokens => {
            let action = Action::Broadcast { event: "message".into(), chat: None };
            (app, Namespace::named("/").act("message", action))
        }
        Serves::Vocabulary => (app.rules(Arc::new(RuleSet::builtin())), Namespace::ruled()),
        Serves::Rules => {
            // One word more in each ack makes them rules of one's own.
            let own = BUILTIN.replace("ok = true", "ok = true, own = 1");
            let rules = RuleSet::parse(&own);
            let rules = rules.map_err(|problems| io::Error::other(problems[0].to_string()))?;
            (app.rules(Arc::new(rules)), Namespace::ruled())
        }
    };
    let namespace = namespace
        .on("enter", async |socket, event| {
            socket.join("room").await;
            event.ack(Args::default());
        })
        .on("drive", handler);
    actix_rt::System::new().block_on(async {
        let listener = bind("127.0.0.1", 0)?;
        let local_address = listener.local_addr()?;
        let address = *drive.address.get_or_init(|| local_address);
        let node = Node::with_policy(Config::default(), app.namespace(namespace), Metrics::new(), policy);
        let server = node.serve(Serve { listener, cors: Cors::Any, tls: None }, |_| {})?;
        let handle = server.handle();
        actix_rt::spawn(server);

        let mut starter = connect(address, &connecting).await?;
        starter.write_all(&frame("42[\"drive\"]")).await?;
        tokio::time::timeout(DEADLINE, drive.is_over.notified()).await?;
        handle.stop(false).await;
        match drive.result.get() {
            Some(Err(error)) => Err(io::Error::other(format!("the clients failed: {error}"))),
            _ => Ok(()),
        }
    })
}

impl Drive {
    /// Connects the clients, and lets them send and receive, on the shard's own thread.
    async fn run(&self, others: usize, messages: usize) {
        let Some(address) = self.address.get() else { return };
        let result = match others {
            0 => come_and_go(*address, &self.connecting, messages).await,
            _ => send_and_receive(*address, &self.connecting, others, messages).await,
        };
        self.result.get_or_init(|| result);
        self.is_over.notify_one();
    }
}

/// One client after the other.
async fn come_and_go(address: SocketAddr, connecting: &str, clients: usize) -> io::Result<()> {
    for number in 0..WARM_UP + clients {
        if number == WARM_UP {
            boundary();
        }
        let mut client = connect(address, connecting).await?;
        client.shutdown().await?;
        // The server closes as well: then it has done what there is to do.
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await?;
    }
    boundary();
    Ok(())
}

async fn send_and_receive(
    address: SocketAddr,
    connecting: &str,
    others: usize,
    messages: usize,
) -> io::Result<()> {
    let message = frame(&format!("42[\"message\",\"room\",\"{}\"]", "x".repeat(62)));
    let mut sender = join(address, connecting).await?;
    // All but the last are read without asking whether there is something to read: that costs the least.
    let mut between = Vec::new();
    for _ in 1..others {
        let client = join(address, connecting).await?.into_std()?;
        client.set_nonblocking(false)?;
        between.push(client);
    }
    let mut last = join(address, connecting).await?;

    // They all have the length of the first one, since an id has always the same.
    let mut delivery = vec![0; 1024];
    sender.write_all(&message).await?;
    let len = last.read(&mut delivery).await?;
    delivery.truncate(len);
    receive(&mut between, &mut delivery)?;

    for number in 0..WARM_UP + messages {
        if number == WARM_UP {
            boundary();
        }
        sender.write_all(&message).await?;
        // Whoever joined last is written last: when this copy has arrived, so have the others.
        last.read_exact(&mut delivery).await?;
        receive(&mut between, &mut delivery)?;
    }
    boundary();
    Ok(())
}

fn receive(clients: &mut [std::net::TcpStream], delivery: &mut [u8]) -> io::Result<()> {
    clients.iter_mut().try_for_each(|client| client.read_exact(delivery))
}

/// `cargo xtask bench` finds this by its name: what is counted lies between its first call and its second.
#[inline(never)]
fn boundary() {
    black_box(());
}

/// A client in the namespace `/`.
async fn connect(address: SocketAddr, connecting: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    read_until(&mut stream, "0{\"sid\"").await?;
    stream.write_all(&frame(connecting)).await?;
    read_until(&mut stream, "40{\"sid\"").await?;
    Ok(stream)
}

/// A client in the room.
async fn join(address: SocketAddr, connecting: &str) -> io::Result<TcpStream> {
    let mut stream = connect(address, connecting).await?;
    stream.write_all(&frame("420[\"enter\"]")).await?;
    read_until(&mut stream, "430[]").await?;
    Ok(stream)
}

/// Reads until what was read has the text in it. Nothing follows it, since the server answers one thing at a time.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while !read.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => read.extend_from_slice(&piece[..len]),
        }
    }
    Ok(())
}

/// A client's text frame of at most 65,535 bytes, with the mask 0.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = match u8::try_from(text.len()) {
        Ok(len @ ..=125) => vec![0x81, 0x80 | len],
        _ => [&[0x81, 0x80 | 126][..], &(text.len() as u16).to_be_bytes()].concat(),
    };
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}
