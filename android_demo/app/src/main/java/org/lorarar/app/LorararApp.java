package org.lorarar.app;

import android.app.Application;
import android.content.Context;

/** The process, which outlives its screens and holds what they show. */
public final class LorararApp extends Application {
    private Studio studio;

    static Studio studio(Context context) {
        return ((LorararApp) context.getApplicationContext()).studio;
    }

    @Override
    public void onCreate() {
        super.onCreate();
        studio = new Studio(this);
    }

    @Override
    public void onTrimMemory(int level) {
        super.onTrimMemory(level);
        studio.trim();
    }
}
