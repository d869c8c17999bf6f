defmodule Cybernetic.WASM.Execution.DevicesTest do
  # Not async: one of them takes the place of standard error.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.Eventually, only: [await: 1]

  alias Cybernetic.WASM.{Executor, HostError, LimitError, Runtime, Sandbox}
  alias Cybernetic.WASM.Execution.Devices

  # Runs `function` with `device` as standard input and output.
  defp on(device, function) do
    Task.async(fn ->
      Process.group_leader(self(), device)
      function.()
    end)
    |> await()
  end

  defp text(input, encoding) do
    {:ok, device} = StringIO.open(input, encoding: encoding)
    device
  end

  defp written(device), do: device |> StringIO.contents() |> elem(1)

  # One that answers what it is asked by `answer`, which may be `:nothing`.
  defp device(answer), do: spawn_link(fn -> serve(answer) end)

  defp serve(answer) do
    receive do
      {:io_request, from, reply_as, request} ->
        with reply when reply != :nothing <- answer.(request),
             do: send(from, {:io_reply, reply_as, reply})

        serve(answer)
    end
  end

  defp closed do
    {pid, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    pid
  end

  defp read_all, do: Enum.join(Devices.stdin())

  describe "standard input" do
    test "is what a device of bytes has, to its end" do
      for bytes <- ["", "line\nno end", "a\r\nb\r\n", <<0, 255, 10, 0xC3>>],
          do: assert(on(text(bytes, :latin1), &read_all/0) == bytes)
    end

    test "is what a device of characters has, to its end" do
      for text <- ["", "öne\ntwø", "a\r\n\u{1F600}\r\n"],
          do: assert(on(text(text, :unicode), &read_all/0) == text)
    end

    test "is asked for when it is wanted, and no more of it" do
      device = text("one\ntwo\nthree\n", :latin1)
      assert on(device, fn -> Enum.take(Devices.stdin(), 1) end) == ["one\n"]
      assert on(device, &read_all/0) == "two\nthree\n"
    end

    test "is empty pieces while nothing comes, and leaves nothing behind" do
      test = self()

      device =
        device(fn
          :getopts -> [encoding: :latin1]
          {:get_until, :latin1, _, _, _, _} = asked -> send(test, asked) && :nothing
        end)

      assert on(device, fn ->
               pieces = Enum.take(Devices.stdin(), 3)
               {pieces, Process.info(self(), [:messages, :monitors])}
             end) == {["", "", ""], [messages: [], monitors: []]}

      assert_received {:get_until, :latin1, _, _, _, _}
      refute_received {:get_until, _, _, _, _, _}
    end

    test "that fails raises" do
      for {device, reason} <- [
            {closed(), :terminated},
            {device(fn _ -> {:error, :eio} end), :eio},
            {device(fn _ -> :nonsense end), :nonsense}
          ] do
        assert %IO.StreamError{reason: ^reason} =
                 on(device, fn -> catch_error(Enum.to_list(Devices.stdin())) end)
      end
    end
  end

  describe "output" do
    test "passes unchanged through a device of bytes" do
      device = text("", :latin1)
      bytes = <<"é", 0, 255, 10, 0xC3>>
      assert on(device, fn -> Devices.write(:stdout, bytes) end) == ""
      assert written(device) == bytes
    end

    test "is text to a device of characters, or else Latin-1" do
      device = text("", :unicode)
      assert on(device, fn -> Devices.write(:stdout, "é") end) == ""
      assert on(device, fn -> Devices.write(:stdout, <<0xFF>>) end) == ""
      assert written(device) == "éÿ"
    end

    test "to a device of characters keeps the beginning of one" do
      device = text("", :unicode)
      assert on(device, fn -> Devices.write(:stdout, <<"a", 0xC3>>) end) == <<0xC3>>
      assert written(device) == "a"
      assert on(device, fn -> Devices.write_rest(:stdout, <<0xC3>>) end) == ""
      assert written(device) == "aÃ"
    end

    test "that cannot be written raises" do
      assert %IO.StreamError{reason: :terminated} =
               on(closed(), fn -> catch_error(Devices.write(:stdout, "text")) end)

      full = device(fn request -> if request == :getopts, do: [], else: {:error, :enospc} end)

      assert %IO.StreamError{reason: :enospc} =
               on(full, fn -> catch_error(Devices.write(:stdout, "text")) end)
    end

    test "to standard error goes where standard error is" do
      assert ExUnit.CaptureIO.capture_io(:stderr, fn -> Devices.write(:stderr, "wörds") end) ==
               "wörds"
    end
  end

  describe "a guest that inherits them" do
    setup do
      {:ok, module: Runtime.load_module!("test/fixtures/wasi/tool.wasm")}
    end

    defp inherit(module, args, opts \\ []) do
      sandbox = Sandbox.new([stdio: :inherited, clocks: :real] ++ opts)
      Executor.run(module, :start, args: args, sandbox: sandbox)
    end

    test "is over at its deadline, though nobody types", %{module: module} do
      silent = device(fn request -> if request == :getopts, do: [], else: :nothing end)

      assert {:error, %LimitError{limit: :timeout, allowed: 100}} =
               on(silent, fn -> inherit(module, ["cat"], timeout: 100) end)
    end

    test "may give up waiting by itself", %{module: module} do
      test = self()

      silent =
        device(fn
          :getopts -> []
          {:put_chars, :latin1, bytes} -> send(test, {:written, bytes}) && :ok
          {:get_until, _, _, _, _, _} -> :nothing
        end)

      assert {:ok, %{exit_code: 0}} = on(silent, fn -> inherit(module, ["stdin-poll", "50"]) end)
      assert_received {:written, "ready clock" <> _}
    end

    test "is ended when its output is closed", %{module: module} do
      assert {:error, %HostError{reason: %IO.StreamError{}, import: {_, "fd_write"}}} =
               on(closed(), fn -> inherit(module, ["flood-forever"]) end)
    end
  end
end
