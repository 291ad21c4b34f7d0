-- Eight requests in one send.
init = function()
  local requests = {}
  for i = 1, 8 do requests[i] = wrk.format() end
  all = table.concat(requests)
end
request = function() return all end
