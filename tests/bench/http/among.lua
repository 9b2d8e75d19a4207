-- One after the other of COUNT URLs, again and again.
local number = 0
local count = tonumber(os.getenv("COUNT"))
function request()
  number = number % count + 1
  return wrk.format("GET", "/1k/among/" .. number)
end
