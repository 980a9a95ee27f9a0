package android.os;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadFactory;

/** Stands in for Android's: one thread, which plays the main one. */
public class Handler {
    private static final ExecutorService MAIN =
            Executors.newSingleThreadExecutor(new ThreadFactory() {
                @Override
                public Thread newThread(Runnable work) {
                    Thread thread = new Thread(work, "main");
                    thread.setDaemon(true);
                    return thread;
                }
            });

    public Handler(Looper looper) {}

    public final boolean post(Runnable work) {
        MAIN.execute(work);
        return true;
    }

    public final void removeCallbacks(Runnable work) {}
}
