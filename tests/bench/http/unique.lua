-- Each request for another URL; FIRST numbers the runs, so that no two ask for the same.
local number = 0
local first = os.getenv("FIRST") or "0"
function request()
  number = number + 1
  return wrk.format("GET", "/1k/" .. first .. "/" .. number)
end
