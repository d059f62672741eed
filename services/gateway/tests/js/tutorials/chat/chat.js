const name = prompt('What is your name?')
const socket = io()
const peer = new Peer({ path: '/peerjs', host: '/', port: location.port || 443 })
const wall = document.getElementById('wall')
const line = document.getElementById('line')
let own

const addVideo = (video, stream) => {
  video.srcObject = stream
  video.muted = true
  video.onloadedmetadata = () => {
    video.play()
    wall.append(video)
  }
}

navigator.mediaDevices.getUserMedia({ audio: true, video: true }).then(stream => {
  own = stream
  addVideo(document.createElement('video'), stream)
  peer.on('call', call => {
    call.answer(stream)
    const video = document.createElement('video')
    call.on('stream', remote => addVideo(video, remote))
  })
  socket.on('user-connected', id => {
    const call = peer.call(id, stream)
    const video = document.createElement('video')
    call.on('stream', remote => addVideo(video, remote))
  })
})

peer.on('open', id => socket.emit('join-room', ROOM_ID, id, name))

document.getElementById('say').onclick = () => {
  if (line.value.length) {
    socket.emit('message', line.value)
    line.value = ''
  }
}
line.onkeydown = event => {
  if (event.key === 'Enter') document.getElementById('say').click()
}
document.getElementById('hush').onclick = () => {
  const [audio] = own.getAudioTracks()
  audio.enabled = !audio.enabled
}

socket.on('createMessage', (message, userName) => {
  const item = document.createElement('li')
  item.textContent = `${userName === name ? 'me' : userName}: ${message}`
  document.querySelector('.lines').append(item)
})
