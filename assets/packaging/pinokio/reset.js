// Models, photos and trainings lie in another folder and stay.
module.exports = {
  run: [{ method: "fs.rm", params: { path: "app" } }],
}
