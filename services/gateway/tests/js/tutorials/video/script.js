const socket = io('/')
const faces = document.getElementById('faces')
const me = new Peer(undefined, { host: '/', path: '/peerjs', port: location.port })
const mine = document.createElement('video')
mine.muted = true
const peers = {}

navigator.mediaDevices.getUserMedia({ video: true, audio: true }).then(stream => {
  show(mine, stream)

  me.on('call', call => {
    call.answer(stream)
    const video = document.createElement('video')
    call.on('stream', theirs => show(video, theirs))
    call.on('close', () => video.remove())
    peers[call.peer] = call
  })

  socket.on('user-connected', userId => callSomebody(userId, stream))
})

socket.on('user-disconnected', userId => {
  if (peers[userId]) peers[userId].close()
})

me.on('open', id => {
  socket.emit('join-room', ROOM_ID, id)
})

function callSomebody(userId, stream) {
  const call = me.call(userId, stream)
  const video = document.createElement('video')
  call.on('stream', theirs => show(video, theirs))
  call.on('close', () => video.remove())
  peers[userId] = call
}

function show(video, stream) {
  video.muted = true
  video.srcObject = stream
  video.addEventListener('loadedmetadata', () => video.play())
  faces.append(video)
}
